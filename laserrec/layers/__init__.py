"""Parts of networks that several models share: attention, transformer blocks, rearranged histories, nearest items."""
