"""The commands: parse arguments, assemble the parts, print. The only code that knows every part."""
