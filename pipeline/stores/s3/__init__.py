"""The object store on anything that speaks S3: MinIO, AWS, Ceph, and many others.

`store.S3Store` is the adapter, `config.S3Config` what can be set. Below it, from the bottom up:
what an object is cut into (`parts`) and how it is checked (`checksums`), which are pure; the signed
requests (`wire`), how fast they must be answered (`pace`), and the threads they block in
(`threads`); the two ways of the bytes (`pull` with its `partial` file, `push` with its `uploads`);
whose problem it is when something goes wrong (`blame`).

minio's client does the requests without a body worth mentioning. It has no public function that
moves one part without holding it in memory, so these requests are built with minio's public parts
(`BaseURL`, `sign_v4_s3`, the credential providers) and sent by the same urllib3 pool.
"""
