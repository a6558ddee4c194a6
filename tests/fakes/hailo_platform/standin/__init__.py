"""What the stand-in for HailoRT is made of: the made-up chip, the model in a HEF, the command."""
