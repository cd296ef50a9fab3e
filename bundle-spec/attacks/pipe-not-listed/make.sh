# Run in a copy of bundle/: makes what cannot be kept in a repository.
mkfifo blobs/pipe
