#!/bin/sh
# The image's entry point: reads each file that NAME_FILE names into the variable NAME, then runs its command.
# For programs that take a secret only from their environment, so that no secret is in the image, a compose file, a
# manifest or a command line. (Ray, libpq and AWS's libraries read files themselves.)
set -eu

for name in MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_TRACKING_PASSWORD PGPASSWORD; do
    file=$(printenv "${name}_FILE") || continue
    value=$(cat "$file")
    export "$name=$value"
done
exec "$@"
