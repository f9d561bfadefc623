//! SMTP: the bridges smtp (MX listener) and submission.
