# Run in a copy of bundle/: makes what cannot be kept in a repository.
mkdir blobs/sha256/empty
