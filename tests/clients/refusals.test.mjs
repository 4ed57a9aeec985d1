// A broker that cannot start says why, and whoever started it reads that, however many others start beside it.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { HarnessDriverClient } from '@agent-relay/harness-driver';

import { PROGRAM, atEnd, folder, startEngine } from './support.mjs';

/** How many starts there are, and how many of them side by side. */
const STARTS = 200;
const BESIDE = 8;

function start(dir, env = {}, more = {}) {
  return HarnessDriverClient.spawn({
    binaryPath: PROGRAM,
    cwd: dir,
    brokerName: 'shop',
    binaryArgs: { persist: true },
    env: { PATH: process.env.PATH, HOME: dir, XDG_DATA_HOME: path.join(dir, 'data'), ...env },
    startupTimeoutMs: 60_000,
    ...more,
  });
}

test('every one of many starts that fail side by side has its reason', async (t) => {
  const dir = folder(t);
  const engine = await startEngine(t, dir);
  const taken = path.join(dir, 'taken');
  fs.mkdirSync(taken);
  const holder = await start(taken, { RELAYCAST_BASE_URL: engine.url, RELAY_WORKSPACE_KEY: engine.key });
  atEnd(t, () => holder.shutdown());

  const ways = [
    { at: () => taken, env: { RELAYCAST_BASE_URL: engine.url, RELAY_WORKSPACE_KEY: engine.key }, reason: /already running in this directory/ },
    { env: { RELAYCAST_BASE_URL: 'http://127.0.0.1:9', RELAY_WORKSPACE_KEY: 'rk_live_1' }, reason: /cannot be reached/ },
    { env: { RELAYCAST_BASE_URL: engine.url, RELAY_WORKSPACE_KEY: 'rk_live_of_nobody' }, reason: /refuses the workspace key/ },
  ];
  const without = [];
  let next = 0;
  const one = async () => {
    while (next < STARTS) {
      const number = next;
      next += 1;
      const { at, env, reason } = ways[number % ways.length];
      const place = at?.() ?? path.join(dir, `start-${number}`);
      fs.mkdirSync(place, { recursive: true });
      const said = await start(place, env).then((client) => client.shutdown().then(() => 'it started'), (error) => error.message);
      if (!reason.test(said)) without.push(said);
    }
  };
  await Promise.all(Array.from({ length: BESIDE }, one));
  assert.deepEqual([without.length, without[0]], [0, undefined], `${without.length} of ${STARTS} have no reason`);
});
