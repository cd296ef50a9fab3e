# Run in a copy of bundle/: makes what cannot be kept in a repository.
i=0; while [ $i -lt 1000 ]; do : > blobs/sha256/$i; i=$((i + 1)); done
