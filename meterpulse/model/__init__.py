"""The words of the field as plain data: channels, readings, quantities, windows, watermarks, quality. Imports nothing of ours."""
