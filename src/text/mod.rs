//! Text in, windows of token numbers out. Pure: no tensors, no windows of the other kind, no threads.
