//! What happened in a story, as its clients and replicas saw it.
