-- 0010_ledger.sql: what an auditor asks of a purge beside the ledger and the register of copies.

-- Since when the warehouse had rows of the patient: copies made from then on have them too. NULL is not known.
ALTER TABLE purge_log ADD COLUMN first_row_at TEXT;
-- When the purge was carried out once more, because the ledger knew it and the file did not.
ALTER TABLE purge_log ADD COLUMN carried_out_at TEXT;
