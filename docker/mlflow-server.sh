#!/bin/sh
# MLflow's server with users and passwords. Its settings are MLflow's own variables:
#   MLFLOW_BACKEND_STORE_URI         database of runs and users; for PostgreSQL without the password, which is PGPASSWORD
#   MLFLOW_ARTIFACTS_DESTINATION     folder or s3://bucket; a missing bucket is created
#   MLFLOW_SERVER_ALLOWED_HOSTS      host names that clients may use
#   MLFLOW_AUTH_ADMIN_USERNAME, MLFLOW_AUTH_ADMIN_PASSWORD, MLFLOW_FLASK_SERVER_SECRET_KEY
#   MLFLOW_HOST, MLFLOW_PORT, MLFLOW_WORKERS
set -eu

: "${MLFLOW_BACKEND_STORE_URI:?names the database}"
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?is missing; MLFLOW_AUTH_ADMIN_PASSWORD_FILE names its file}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?is missing; MLFLOW_FLASK_SERVER_SECRET_KEY_FILE names its file}"

# Without this file MLflow keeps its users in a SQLite file in the working directory.
MLFLOW_AUTH_CONFIG_PATH=$(mktemp -d)/auth.ini
export MLFLOW_AUTH_CONFIG_PATH
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<END
[mlflow]
default_permission = READ
database_uri = ${MLFLOW_AUTH_DATABASE_URI:-$MLFLOW_BACKEND_STORE_URI}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
END

case ${MLFLOW_ARTIFACTS_DESTINATION:-} in
    s3://*) python -c '
import os, time, urllib.parse
import boto3, botocore.config, botocore.exceptions
once = botocore.config.Config(retries={"total_max_attempts": 1})
bucket = urllib.parse.urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"]).netloc
for left in reversed(range(60)):
    try:
        client = boto3.client("s3", config=once)
        if bucket not in [known["Name"] for known in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket)
        break
    except botocore.exceptions.BotoCoreError:
        if not left:
            raise
        time.sleep(1)
' ;;
esac

# Without MLflow's worker processes for traces, and without its telemetry.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
exec mlflow server --app-name basic-auth
