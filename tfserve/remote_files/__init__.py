"""Files from other servers: https://, s3://, gs:// and hf://, if the operator allows the source."""
