-- A payment that is sent leaves a dead entry at the beginning of payments_unsent, where every claim
-- begins to search. By default vacuum comes after a fifth of the table. Of 100 million rows that is
-- millions of dead entries: 770 pages and 2 ms of each search for every 200,000 of them in a
-- partition. It also skips the indexes while fewer than 2 % of the pages have dead rows.
--
-- Here it comes after 200,000 rows and a thousandth of the table, which also bounds the dead rows,
-- and it always cleans the indexes. Nothing else depends on it.
alter table payments set (autovacuum_vacuum_threshold = 200000, autovacuum_vacuum_scale_factor = 0.001,
    vacuum_index_cleanup = on);

---- create above / drop below ----

alter table payments reset (autovacuum_vacuum_threshold, autovacuum_vacuum_scale_factor,
    vacuum_index_cleanup);
