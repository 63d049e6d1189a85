-- The shop's own tables, in a schema of its own.
CREATE SCHEMA shop;
CREATE TABLE shop.stock (
	sku       text PRIMARY KEY,
	price     bigint NOT NULL,
	available bigint NOT NULL CONSTRAINT sold_out CHECK (available >= 0)
);
CREATE TABLE shop.orders (
	number   text PRIMARY KEY,     -- its idempotency key; the id if it came without one
	id       text NOT NULL UNIQUE, -- of its record
	customer text NOT NULL,
	sku      text NOT NULL,
	count    bigint NOT NULL CHECK (count > 0),
	total    bigint NOT NULL,
	at       timestamptz NOT NULL
);
CREATE TABLE shop.balances (customer text PRIMARY KEY, owed bigint NOT NULL);
INSERT INTO shop.stock VALUES ('pear', 3, 1000), ('plum', 2, 5);

-- Who may do what. The roles drainmark_… are made by "drainmark migrate --print --roles".
CREATE ROLE shop_consumer LOGIN IN ROLE drainmark_consumer; -- applies the orders
CREATE ROLE shop_backend LOGIN IN ROLE drainmark_backend;   -- accepts them, and never sees the shop's tables
CREATE ROLE shop_service LOGIN IN ROLE drainmark_reader;    -- reads, and asks drainmark.holds
GRANT USAGE ON SCHEMA shop TO shop_consumer, shop_service;
GRANT SELECT, UPDATE (available) ON shop.stock TO shop_consumer;
GRANT INSERT ON shop.orders TO shop_consumer;
GRANT SELECT, INSERT, UPDATE ON shop.balances TO shop_consumer;
GRANT SELECT ON ALL TABLES IN SCHEMA shop TO shop_service;
