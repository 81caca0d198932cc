//! The node that operators run, and the command line of Lamina.
