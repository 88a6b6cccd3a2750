"""What a user can do, as plain Python: the library, questions, their evidence. No page layout, no tensors, no SQL.

Nothing is imported here: each untrusted file is read by a fresh process, which must not wait for the model's libraries.
"""
