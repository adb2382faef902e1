#!/bin/sh
# The image's entry point: becomes its command, after putting the content of each file that NAME_FILE names into NAME.
# For programs that read a secret from nothing but their environment; so none stands in the image, in a compose file, in
# a manifest or on a command line. (Ray, libpq's peers and AWS's libraries read files themselves.)
set -eu

for name in MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_TRACKING_PASSWORD PGPASSWORD; do
    file=$(printenv "${name}_FILE") || continue
    value=$(cat "$file")
    export "$name=$value"
done
exec "$@"
