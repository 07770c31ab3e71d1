"""`fdpass dashboard`: a page, metrics and checks of running servers, which it asks over their control sockets."""
