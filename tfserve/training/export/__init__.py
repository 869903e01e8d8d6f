"""The trained model as files for servers, phones and browsers."""
