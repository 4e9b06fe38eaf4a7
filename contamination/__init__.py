"""Does the training data hold the benchmarks?"""
