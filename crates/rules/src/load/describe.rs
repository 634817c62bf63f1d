//! What was loaded, as `falco -L -o json_output=true` tells it.
