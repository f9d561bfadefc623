-- Which certificates' secret keys are in `wrapped`, and what they open: CBOR of `store::Held`, read without a password. NULL where
-- that is not known, as in rows that earlier formats wrote: then they open all that is sealed to the keyset.
ALTER TABLE secret_keys ADD COLUMN held BLOB;
