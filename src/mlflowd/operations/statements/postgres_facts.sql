-- What the current schema holds: ours is what the user owns, by itself or by a role it belongs to; what an extension
-- brought is nobody's. One line of JSON.
WITH own_schema AS (
    SELECT oid FROM pg_namespace WHERE nspname = current_schema()
), extension_member AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), relation AS (
    SELECT c.oid, c.relname, c.relkind, c.relowner, pg_has_role(c.relowner, 'USAGE') AS ours
    FROM pg_class c JOIN own_schema s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extension_member)
), other AS (
    SELECT p.oid::regprocedure::text AS name, p.proowner AS owner
    FROM pg_proc p JOIN own_schema s ON s.oid = p.pronamespace
    WHERE ('pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM extension_member)
    UNION ALL
    SELECT t.oid::regtype::text, t.typowner
    FROM pg_type t JOIN own_schema s ON s.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c')
    AND ('pg_type'::regclass, t.oid) NOT IN (SELECT classid, objid FROM extension_member)
)
SELECT json_build_object(
    'schema', current_schema(),
    'path', current_setting('search_path'),
    'user', current_user,
    'number', current_setting('server_version_num')::int,
    'version', current_setting('server_version'),
    'tables', (SELECT count(*) FROM relation WHERE ours AND relkind IN ('r', 'p')),
    'bytes', (SELECT coalesce(sum(pg_table_size(oid)), 0) FROM relation WHERE ours AND relkind IN ('r', 'm')),
    'others', (SELECT coalesce(json_agg(relname), '[]') FROM relation WHERE NOT ours),
    'strange', (SELECT coalesce(json_agg(name || ' of ' || pg_get_userbyid(owner)), '[]')
                FROM other WHERE NOT pg_has_role(owner, 'USAGE')),
    'revisions', (SELECT count(*) FROM relation WHERE ours AND relname = 'alembic_version'),
    'owner', (SELECT pg_get_userbyid(relowner) FROM relation WHERE relname = 'alembic_version'),
    'locale', (SELECT json_build_array(pg_encoding_to_char(encoding), datcollate, datctype)
               FROM pg_database WHERE datname = current_database())
);
