"""What is told of single requests, where anybody asks for it: a log line, a trace."""
