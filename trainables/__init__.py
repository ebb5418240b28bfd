"""What is trained: one readable file a trainable, what they share beside them, and their data."""
