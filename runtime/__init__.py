"""The runtime: codec bundles, program interpreter, graph backends, command line. Its public names are those of
`nicrt`.
"""
