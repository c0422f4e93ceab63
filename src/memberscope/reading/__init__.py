"""Files that people or other programs wrote, each checked and parsed once, where it comes in.

A reader takes regular files alone, never a pipe or a device, which may have no end; it looks at the size that a file has or promises before
it reads; and it gives typed values, or raises one `UserError` that names the option, the file and what is allowed. The rest of the package
takes these values as they are.
"""
