#!/bin/sh
# Creates random secrets for compose.yaml in docker/secrets/; existing ones are kept. Only the owner can enter the folder;
# the files are world-readable, because the containers read them as other users.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
cd secrets

random() { od -An -N 32 -t x1 /dev/urandom | tr -d ' \n'; }

for name in ray_token mlflow_password mlflow_key postgres_password; do
    [ -e "$name" ] || random >"$name"
done
if [ ! -e s3_credentials ]; then
    access=$(random | cut -c 1-20) secret=$(random)
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$access" "$secret" >s3_credentials
    printf '{"identities": [{"name": "mlflow", "actions": ["Admin"], "credentials": [{"accessKey": "%s", "secretKey": "%s"}]}]}\n' \
        "$access" "$secret" >s3_users.json
fi
chmod 644 ./*
