"""The client side of private identification: quantise, split, seal, sign; fan out, combine."""
