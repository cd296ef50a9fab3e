# Run in a copy of bundle/: makes what cannot be kept in a repository.
{ printf '{"x":'; head -c 1000000 /dev/zero | tr '\000' '['; } > 'blobs/sha256/a4bacff3951571a05a156a099d378351053bacb9f8dff1144d40f751e1c94a49'
