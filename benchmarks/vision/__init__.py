"""Pages as a model sees them: image tokens with positions and boxes, and published ways to read fewer of them.

To add a method, write a function as `image_tokens.Reduction` has it; no feature of the program uses them yet.
"""
