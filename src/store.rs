//! What is known of a run: the events applied one after the other.
