"""The provider process: one outbound session, jobs in, bytes out."""
