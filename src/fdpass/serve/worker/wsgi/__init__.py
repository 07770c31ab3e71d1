"""WSGI (PEP 3333): environ, request body, threads, and the call of the application for one request."""
