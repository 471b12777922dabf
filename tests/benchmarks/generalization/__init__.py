"""Whether the verdict on generalization turns where the held-out loss does, and is silent on healthy runs."""
