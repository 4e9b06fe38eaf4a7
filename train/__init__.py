"""DeepSpeed trainer of small decoders in which every token is accounted for."""
