"""The frozen language model: loading, a decoder over cached keys and values, its attention and fast kernels. Knows no cache, no items."""
