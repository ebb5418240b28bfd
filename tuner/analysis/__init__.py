"""What the results of a sweep say: pure functions of data frames and arrays. No file, no Ray, no torch."""
