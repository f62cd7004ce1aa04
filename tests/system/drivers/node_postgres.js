// node-postgres with its default settings: node node_postgres.js TASK; libpq's variables say where.
"use strict";
const assert = require("assert");
const fs = require("fs");
const { Client, Pool } = require("pg");

const nClients = Number(process.env.N_CLIENTS), nTurns = Number(process.env.N_TURNS);
const tls = process.env.PGSSLROOTCERT
  ? { ssl: { ca: fs.readFileSync(process.env.PGSSLROOTCERT) } } : {};
delete process.env.PGSSLMODE;

async function each(n, run) {
  await Promise.all([...Array(n).keys()].map(async (number) => {
    const client = new Client({ ...tls });
    await client.connect();
    await run(client, number);
    await client.end();
  }));
}

async function code(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code || error.message;
  }
  return "no error";
}

async function one(client, query, ...values) {
  return Object.values((await client.query(query, values)).rows[0])[0];
}

const tasks = {
  // Statements with and without a name, errors, transactions.
  async share() {
    let moved = 0;
    await each(nClients, async (client, number) => {
      const pids = new Set();
      for (let turn = 0; turn < nTurns; turn++) {
        const tag = `${number}:${turn}`;
        const found = (await client.query({
          name: "mine", text: "select $1::text as tag, $2::int + 1 as n, pg_backend_pid() as pid", values: [tag, turn],
        })).rows[0];
        assert.deepStrictEqual([found.tag, found.n], [tag, turn + 1]);
        pids.add(found.pid);
        const named = await client.query({
          name: `of-${number}-${turn % 7}`, text: `select '${number}/${turn % 7}' || $1::text as x`, values: [tag] });
        assert.strictEqual(named.rows[0].x, `${number}/${turn % 7}${tag}`);
        assert.strictEqual(await one(client, `select '${turn}' || $1::text`, tag), turn + tag);
        if (turn % 5 === 0) {
          assert.strictEqual(await code(client.query("select 1 / $1::int", [0])), "22012");
          assert.strictEqual(await code(client.query({ name: "bad", text: "select 1 / $1::int", values: [0] })), "22012");
        }
        for (const end of turn % 2 ? ["commit", "rollback"] : []) {
          await client.query("begin");
          await client.query("insert into driver_things values ($1, $2, $3)", [number, turn, end]);
          await client.query(end);
        }
      }
      const kept = (await client.query("select count(*)::int as n, max(tag) as tag from driver_things where client = $1",
        [number])).rows[0];
      assert.deepStrictEqual(kept, { n: nTurns / 2, tag: "commit" });
      moved += pids.size > 1;
    });
    console.log(moved ? "moved" : "stayed");
  },

  async cancel() {
    await each(2, async (client, number) => {
      const inTime = new Client({ ...tls, statement_timeout: 300, application_name: `in time ${number}` });
      await inTime.connect();
      const impatient = new Client({ ...tls, query_timeout: 300 });
      await impatient.connect();
      for (let turn = 0; turn < 4; turn++) {
        assert.strictEqual(await code(inTime.query("select pg_sleep(30)")), "57014");
        assert.strictEqual(await one(inTime, "select $1::int", turn), turn);
        assert.strictEqual(await one(client, "show statement_timeout"), "0");
        assert.strictEqual(await one(client, "select $1::text from pg_sleep(0.5)", `${number}`), `${number}`);
      }
      assert.strictEqual(await code(impatient.query("select pg_sleep(2)")), "Query read timeout");
      await impatient.end();
      await inTime.end();
    });
  },

  async large() {
    await each(3, async (client, number) => {
      const letter = "abc"[number];
      assert.strictEqual(await one(client, "select repeat($1, 5000000)", letter), letter.repeat(5000000));
      const long = "xyz"[number].repeat(3000000);
      assert.strictEqual(await one(client, "select $1::text", long), long);
      const text = `select '${long}' || $1`;
      assert.strictEqual(await one(client, text, "!"), long + "!");
      const rows = (await client.query("select x + $1 as x from generate_series(1, 50000) x", [number])).rows;
      assert.ok(rows.length === 50000 && rows.every((row, i) => row.x === i + 1 + number));
    });
  },

  async forget() {
    await each(4, async (client, number) => {
      for (let turn = 0; turn < 10; turn++) {
        if (number === 0)
          await client.query(turn % 2 ? "discard all" : "deallocate all");
        // The driver does not know that its names have gone: others are taken.
        for (let again = 0; again < 2; again++)
          assert.strictEqual((await client.query({ name: `n${turn}`, text: "select $1::text as x",
            values: [`${number}${turn}`] })).rows[0].x, `${number}${turn}`);
      }
    });
  },

  async notices() {
    await each(nClients, async (client, number) => {
      const heard = [];
      client.on("notice", (notice) => heard.push(notice.message));
      for (let turn = 0; turn < 30; turn++)
        await client.query(`do $$ begin raise notice '${number}:${turn}'; end $$`);
      assert.deepStrictEqual(heard, [...Array(30).keys()].map((turn) => `${number}:${turn}`));
    });
  },

  // The driver's own pool makes connections anew.
  async lost() {
    const pool = new Pool({ ...tls, max: 2 });
    pool.on("error", () => {});
    assert.strictEqual(await one(pool, "select $1::int", 1), 1);
    assert.notStrictEqual(await code(pool.query("select pg_terminate_backend(pg_backend_pid())")), "no error");
    for (let turn = 0; turn < 5; turn++)
      assert.strictEqual(await one(pool, "select $1::int", turn), turn);
    await pool.end();
  },
};

tasks[process.argv[2]]().catch((error) => {
  console.error(error);
  process.exit(1);
});
