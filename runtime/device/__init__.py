"""Decoding on a device: latents, indices and pixels stay where they are made.

`devices` finds the device, `graphs` runs a bundle's graphs on its buffers, `plan` lays a program out for one picture
size, `decoder` keeps the plans, `picture` is what comes out.
"""
