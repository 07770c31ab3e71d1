"""The parts that keep the slot of a connection in custody true."""
