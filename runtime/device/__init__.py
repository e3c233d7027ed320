"""Decoding on a device: latents, indices and pixels stay where they are made.

`devices` finds the device, `graphs` runs a bundle's graphs on its buffers, `layout` gives a plan's steps buffers and
calls there, `replay` runs them, `decoding` keeps what each picture size needs, `codec` is the face of it and `picture`
what comes out.
"""
