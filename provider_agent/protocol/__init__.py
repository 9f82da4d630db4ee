"""What both sides say: frames, their bytes, whose turn it is. No I/O, no clock, no event loop."""
