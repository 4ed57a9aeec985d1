// A broker that somebody has started for himself goes when he does. Takes two minutes of waiting, beside the others.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

import { PROGRAM, atEnd, folder, isAlive, until, within } from './support.mjs';

/** An owner, in a process of his own: starts a broker with an agent, says what they are, and stays. */
const OWNER = `
  import { HarnessDriverClient } from '@agent-relay/harness-driver';
  const [binaryPath, cwd, persist] = process.argv.slice(1);
  const client = await HarnessDriverClient.spawn({ binaryPath, cwd, brokerName: 'mine', binaryArgs: { persist: persist === 'true' } });
  await client.spawnPty({ name: 'echo', cli: 'cat' });
  const [{ pid }] = await client.listAgents();
  console.log(JSON.stringify({ broker: client.brokerPid, agent: pid }));
  setInterval(() => {}, 1000);`;

async function owned(t, persist) {
  const dir = folder(t);
  const temp = path.join(dir, 'temp');
  fs.mkdirSync(temp);
  const env = { PATH: process.env.PATH, HOME: dir, XDG_DATA_HOME: `${dir}/data`, TMPDIR: temp };
  const owner = spawn(process.execPath, ['--input-type=module', '-e', OWNER, PROGRAM, dir, String(persist)], {
    cwd: import.meta.dirname, env, stdio: ['ignore', 'pipe', 'inherit'],
  });
  const line = new Promise((ok) => { createInterface({ input: owner.stdout }).once('line', ok); });
  const facts = JSON.parse(await within(line, 'the owner to have a broker', 60_000));
  atEnd(t, async () => {
    if (isAlive(facts.broker)) process.kill(facts.broker, 'SIGTERM');
    await until(() => !isAlive(facts.broker), 'the end of the broker');
  });
  owner.kill('SIGKILL');
  return { ...facts, temp };
}

test('a broker whose owner is killed goes with its agents and its folder, and one that is to persist stays', async (t) => {
  const stays = await owned(t, true);
  const goes = await owned(t, false);
  assert.equal(fs.readdirSync(goes.temp).length, 1);
  // 120 s of lease, 10 s until it is looked at, and some for the end.
  await until(() => !isAlive(goes.broker), 'the end of the broker', 135_000);
  assert.ok(!isAlive(goes.agent));
  assert.deepEqual(fs.readdirSync(goes.temp), []);
  assert.ok(isAlive(stays.broker) && isAlive(stays.agent));
});
