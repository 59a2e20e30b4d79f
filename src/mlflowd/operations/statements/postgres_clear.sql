-- For psql: begins a transaction and removes from the current schema what is ours (see postgres_facts.sql). Never
-- CASCADE: what others have built upon MLflow's tables is theirs, and is named by the error that ends all this.
SET client_min_messages = error;
SET statement_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET lock_timeout = '60s';
SELECT oid AS own_schema FROM pg_namespace WHERE nspname = current_schema() \gset

-- Sessions that a killed container has left in the middle of a transaction hold locks; others do no harm.
SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.usename = current_user AND a.pid <> pg_backend_pid() AND EXISTS (
    SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = a.pid AND c.relnamespace = :own_schema AND pg_has_role(c.relowner, 'USAGE')
);

BEGIN;
SELECT format('DROP %s %s', what, string_agg(c.oid::regclass::text, ', '))
FROM pg_class c JOIN (
    VALUES (1, 'v', 'VIEW'), (2, 'm', 'MATERIALIZED VIEW'), (3, 'f', 'FOREIGN TABLE'), (4, 'r', 'TABLE'), (4, 'p', 'TABLE')
) AS kind (place, relkind, what) ON kind.relkind = c.relkind::text
WHERE c.relnamespace = :own_schema AND pg_has_role(c.relowner, 'USAGE') AND NOT c.relispartition
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid)
GROUP BY place, what ORDER BY place
\gexec
-- The sequences of the tables are gone with them.
SELECT format('DROP SEQUENCE %s', c.oid::regclass) FROM pg_class c
WHERE c.relnamespace = :own_schema AND c.relkind = 'S' AND pg_has_role(c.relowner, 'USAGE')
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid)
\gexec
SELECT format('DROP ROUTINE %s', p.oid::regprocedure) FROM pg_proc p
WHERE p.pronamespace = :own_schema AND pg_has_role(p.proowner, 'USAGE')
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_proc'::regclass AND d.objid = p.oid)
\gexec
SELECT format('DROP TYPE %s', t.oid::regtype) FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typnamespace = :own_schema AND (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c')
AND pg_has_role(t.typowner, 'USAGE')
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e' AND d.classid = 'pg_type'::regclass AND d.objid = t.oid)
\gexec
