// What a crash, a restart and a wrong key do to people's messages.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import WebSocket from 'ws';

import { Proxy } from './proxy.mjs';
import {
  BOGUS_NODE_TOKEN, folder, inOrder, isAlive, live, recorder, register, startBroker, startEngine, until, within, workspace, written,
} from './support.mjs';

for (const [how, end] of [['was killed', 'kill'], ['was stopped', 'stop']]) {
  test(`a broker that ${how} comes back with the token it had, and types what came meanwhile, once and in order`, async (t) => {
    const dir = folder(t);
    const file = path.join(dir, 'heard');
    const engine = await startEngine(t, dir);
    const proxy = await Proxy.start(t, engine);
    const options = { engine: proxy, agents: { echo: recorder(file) } };
    const lead = await register(t, workspace(engine), 'lead');

    const before = await startBroker(t, dir, options);
    await lead.me.dm('echo', 'first-word');
    await written(file, 'first-word');
    await proxy.seen(acked('echo', 1), 'the ack of the first message');
    await before[end]();
    await lead.me.dm('echo', 'second-word');
    await lead.me.dm('echo', 'third-word');

    const after = await startBroker(t, dir, options);
    await written(file, 'third-word');
    await proxy.seen(acked('echo', 3), 'the ack of what came meanwhile');
    await after[end]();
    await startBroker(t, dir, options);
    await lead.me.dm('echo', 'last-word');
    const words = ['first-word', 'second-word', 'third-word', 'last-word'];
    assert.deepEqual(inOrder(await written(file, 'last-word'), words), words);

    assert.deepEqual(proxy.upgrades.filter(({ path: p }) => p === '/v1/node/ws').map(({ status }) => status), [101, 101, 101]);
    assert.equal(proxy.requests.filter(({ method, path: p }) => method === 'POST' && p === '/v1/nodes').length, 1, 'enrolled once');
  });
}

test('messages that were held when the broker was killed are typed when they are let go, once and in order', async (t) => {
  const dir = folder(t);
  const file = path.join(dir, 'heard');
  const engine = await startEngine(t, dir);
  const options = { engine, agents: { echo: recorder(file) } };
  const lead = await register(t, workspace(engine), 'lead');
  const before = await startBroker(t, dir, options);
  await before.api('PUT', '/api/spawned/echo/delivery-mode', { mode: 'manual_flush' });
  await lead.me.dm('echo', 'held-one');
  await lead.me.dm('echo', 'held-two');
  await until(async () => (await before.api('GET', '/api/spawned/echo/pending')).pending.length === 2, 'both to be held');
  await before.kill();

  const after = await startBroker(t, dir, options);
  await after.api('PUT', '/api/spawned/echo/delivery-mode', { mode: 'auto_inject' });
  await lead.me.dm('echo', 'the-end');
  const words = ['held-one', 'held-two', 'the-end'];
  assert.deepEqual(inOrder(await written(file, 'the-end'), words), words);
});

test('a broker that is killed in the middle of a burst loses nothing, keeps the order, and repeats at most what it was typing', async (t) => {
  const dir = folder(t);
  const file = path.join(dir, 'heard');
  const engine = await startEngine(t, dir);
  const options = { engine, agents: { echo: recorder(file) } };
  const lead = await register(t, workspace(engine), 'lead');
  const before = await startBroker(t, dir, options);
  const words = Array.from({ length: 150 }, (_, n) => `word-${String(n).padStart(3, '0')}`);
  const burst = (async () => {
    for (const word of words) await lead.me.dm('echo', word);
  })();
  await written(file, words[20]);
  await before.kill();
  await startBroker(t, dir, options);
  await burst;
  await lead.me.dm('echo', 'the-end');
  const typed = inOrder(await written(file, 'the-end'), words);
  assert.deepEqual([...new Set(typed)], words);
  assert.ok(typed.length <= words.length + 1, `repeated: ${typed.filter((word, n) => typed.indexOf(word) !== n)}`);
});

test('agents do not outlive a broker that is killed', async (t) => {
  const broker = await startBroker(t, folder(t), { agents: { first: 'cat', second: 'sleep 1000' } });
  const { agents } = await broker.api('GET', '/api/spawned');
  const pids = agents.map(({ pid }) => pid);
  assert.equal(pids.length, 2);
  assert.ok(pids.every(isAlive));
  await broker.kill();
  await until(() => !pids.some(isAlive), 'the agents to be gone');
});

test('messages survive the engine being killed, and everybody finds it again', async (t) => {
  const dir = folder(t);
  const file = path.join(dir, 'heard');
  const engine = await startEngine(t, dir);
  const broker = await startBroker(t, dir, { engine, agents: { echo: recorder(file) } });
  const lead = await register(t, workspace(engine), 'lead');
  await lead.me.dm('echo', 'first-word');
  await written(file, 'first-word');
  await engine.kill();
  const again = await startEngine(t, dir, { listen: engine.url.replace('http://', '') });
  assert.deepEqual([again.url, again.key], [engine.url, engine.key]);
  await live(workspace(again), broker.name);
  await lead.me.dm('echo', 'last-word');
  const words = ['first-word', 'last-word'];
  assert.deepEqual(inOrder(await written(file, 'last-word'), words), words);
});

test('whoever knocks at the node door without a node token gets 401, and no connection', async (t) => {
  const engine = await startEngine(t, folder(t));
  const relay = workspace(engine);
  const { token } = await register(t, relay, 'ada');
  const knock = (query, headers = {}) => within(new Promise((ok) => {
    const socket = new WebSocket(`${engine.url.replace('http', 'ws')}/v1/node/ws${query}`, { headers });
    socket.on('error', () => {});
    socket.on('open', () => { socket.terminate(); ok('open'); });
    socket.on('unexpected-response', (_, answer) => { answer.resume(); ok(answer.statusCode); });
  }), 'the engine to answer a knock');
  for (const [what, query, headers] of [
    ['no token', ''],
    ['a made-up token', `?token=${BOGUS_NODE_TOKEN}`],
    ['a made-up token as a header', '', { authorization: `Bearer ${BOGUS_NODE_TOKEN}` }],
    ['an agent token', `?token=${token}`],
    ['the workspace key', `?token=${engine.key}`],
  ]) {
    assert.equal(await knock(query, headers), 401, what);
  }
  const { id, token: old } = await relay.nodes.create({ name: 'box' });
  assert.equal(await knock(`?token=${old}`), 'open');
  const { token: fresh } = await relay.nodes.create({ nodeId: id, name: 'box' });
  assert.equal(await knock(`?token=${old}`), 401, 'a replaced token');
  assert.equal(await knock('', { authorization: `Bearer ${fresh}` }), 'open');
});

test('a broker with a made-up node token is refused, never live, and says so', async (t) => {
  const dir = folder(t);
  const engine = await startEngine(t, dir);
  const proxy = await Proxy.start(t, engine);
  const broker = await startBroker(t, dir, { engine: proxy, env: { RELAY_NODE_TOKEN: BOGUS_NODE_TOKEN } });
  await proxy.seen(({ upgrades }) => upgrades.length > 0, 'a try to connect');
  assert.deepEqual(proxy.upgrades.map(({ status }) => status), [401]);
  const status = await until(async () => {
    const now = await broker.api('GET', '/api/status');
    return /token/i.test(now.degraded_reason) && now;
  }, 'the broker to say that its token is no good');
  assert.equal(status.node_connected, false);
  assert.deepEqual((await workspace(engine).nodes.list({ name: broker.name })).filter((node) => node.live), []);
});

/** Whether the broker acknowledged that much. */
function acked(agent, seq) {
  return (proxy) => proxy.of('broker', 'delivery.ack').some((ack) => ack.agent === agent && ack.up_to_seq >= seq);
}
