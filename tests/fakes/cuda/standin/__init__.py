"""What the stand-in of cuda-python is made of; tests reach its machine in `standin.machine`."""
