// Agents that are started for a result: the npm client's own way to wait for one.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { HarnessDriverClient } from '@agent-relay/harness-driver';

import { PROGRAM, atEnd, folder, startBroker, until } from './support.mjs';

const SCHEMA = { type: 'object', properties: { sum: { type: 'integer' } }, required: ['sum'], additionalProperties: false };

/** The client, and a program that runs these lines in its terminal. */
async function world(t) {
  const dir = folder(t);
  const broker = await startBroker(t, dir);
  const client = await HarnessDriverClient.connect({ connectionPath: broker.file });
  atEnd(t, () => client.disconnect());
  client.connectEvents();
  const spawn = (name, lines, more = {}) => client.spawnPty({
    name, cli: 'sh', args: ['-c', `${lines}; exec cat`], agentResultSchema: SCHEMA, ...more,
  });
  return { broker, client, spawn };
}

test('a handle gets the result that its agent hands in, and only one that fits', async (t) => {
  const { client, spawn } = await world(t);
  const submit = (data) => `'${PROGRAM}' submit-result '${JSON.stringify(data)}'`;
  const ada = await spawn('ada', `${submit({ sum: 'many' })}; ${submit({ sum: 42 })}`);
  const result = await ada.waitForResult(15_000);
  assert.equal(result.reason, 'result');
  assert.deepEqual([result.data, result.final], [{ sum: 42 }, true]);
  assert.match(result.resultId, /^ar_/);
  assert.deepEqual(await ada.waitForResult(0), result);
  assert.equal(client.queryEvents({ kind: 'agent_result', name: 'ada' }).length, 1);
});

test('a result that comes after the final one is refused, and no handle hears of it', async (t) => {
  const { client, spawn } = await world(t);
  const heard = [];
  client.onEvent((event) => { if (event.kind === 'agent_result') heard.push(event); });
  const submit = (sum, more = '') => `'${PROGRAM}' submit-result ${more} '${JSON.stringify({ sum })}'`;
  const ada = await spawn('ada', `${submit(1, '--interim')}; ${submit(2)}; ${submit(3)} || echo it was late`);
  await until(async () => (await client.snapshot('ada', 'plain')).screen.includes('it was late'), 'the refusal');
  await until(() => heard.length === 2, 'both results');
  assert.deepEqual(heard.map((event) => [event.data, event.final]), [[{ sum: 1 }, false], [{ sum: 2 }, true]]);
  const result = await ada.waitForResult(15_000);
  assert.notDeepEqual(result.data, { sum: 3 });
});

test('a handle hears of an agent that ends without one, and of time that is over', async (t) => {
  const { spawn } = await world(t);
  const eve = await spawn('eve', 'sleep 1; exit 3');
  const ended = await eve.waitForResult(15_000);
  assert.equal(ended.reason, 'exited');
  const bob = await spawn('bob', 'true');
  assert.deepEqual(await bob.waitForResult(200), { reason: 'timeout' });
});

test('a schema that is none is refused before anything starts', async (t) => {
  const { client, spawn } = await world(t);
  await assert.rejects(spawn('ada', 'true', { agentResultSchema: { type: 'objekt' } }), /agentResultSchema/);
  assert.deepEqual(await client.listAgents(), []);
});
