// What people and programs with the SDK can say to each other, and to agents in terminals.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';

import { RelayCast } from '@relaycast/sdk';

import { Proxy } from './proxy.mjs';
import {
  atEnd, folder, inOrder, inbox, live, recorder, register, startBroker, startEngine, within, workspace, written,
} from './support.mjs';

test('two agents made with the SDK talk, and one that was away gets what it missed, once and in order', async (t) => {
  const engine = await startEngine(t, folder(t));
  const { apiKey, workspaceId } = await RelayCast.createWorkspace('talking', engine.url);
  assert.match(apiKey, /^rk_live_[0-9a-f]{32}$/);
  const relay = new RelayCast({ apiKey, baseUrl: engine.url });
  assert.equal((await relay.workspace.info()).id, workspaceId);
  const ada = await register(t, relay, 'ada');
  const bob = await register(t, relay, 'bob');

  const first = await inbox(bob.me);
  await ada.me.dm('bob', 'one');
  await ada.me.dm('bob', 'two');
  assert.deepEqual(await first.upTo('two'), ['one', 'two'], 'each once');

  await bob.me.disconnect();
  await ada.me.dm('bob', 'three');
  await ada.me.dm('bob', 'four');
  const second = await inbox(bob.me);
  await second.upTo('four');
  await ada.me.dm('bob', 'five');
  assert.deepEqual(await second.upTo('five'), ['three', 'four', 'five']);
  assert.deepEqual(first.texts, ['one', 'two'], 'nothing more on the old connection');
});

test('an agent that takes over a name gets a token, and the old one is refused', async (t) => {
  const engine = await startEngine(t, folder(t));
  const relay = workspace(engine);
  const old = await relay.agents.registerOrRotate({ name: 'ada' });
  await assert.rejects(relay.agents.register({ name: 'ada' }), { code: 'name_conflict', statusCode: 409 });
  const fresh = await relay.agents.registerOrRotate({ name: 'ada' });
  assert.match(fresh.token, /^at_live_[0-9a-f]{32}$/);
  assert.notEqual(fresh.token, old.token);
  assert.equal(fresh.id, old.id, 'still the same agent');
  assert.equal((await relay.as(fresh.token).me()).name, 'ada');
  await assert.rejects(relay.as(old.token).me(), { code: 'agent_token_invalid', statusCode: 401 });
});

test('the same post sent twice arrives once, and its key cannot be used for other words', async (t) => {
  const engine = await startEngine(t, folder(t));
  const relay = workspace(engine);
  const ada = await register(t, relay, 'ada');
  const bob = await register(t, relay, 'bob');
  const box = await inbox(bob.me);
  const once = await ada.me.dm('bob', 'pay the bill', { idempotencyKey: 'bill-1' });
  const again = await ada.me.dm('bob', 'pay the bill', { idempotencyKey: 'bill-1' });
  assert.equal(again.id, once.id);
  await assert.rejects(ada.me.dm('bob', 'pay it all', { idempotencyKey: 'bill-1' }), { statusCode: 409, rawCode: 'idempotency_key_reused' });
  await ada.me.send('#general', 'to all', { idempotencyKey: 'all-1' });
  await ada.me.send('#general', 'to all', { idempotencyKey: 'all-1' });
  await ada.me.dm('bob', 'done');
  assert.deepEqual(await box.upTo('done'), ['pay the bill', 'to all', 'done']);
});

test('agents use channels, threads, reactions and group messages', async (t) => {
  const engine = await startEngine(t, folder(t));
  const relay = workspace(engine);
  const [ada, bob, cleo] = [await register(t, relay, 'ada'), await register(t, relay, 'bob'), await register(t, relay, 'cleo')];
  const [atBob, atCleo] = [await inbox(bob.me), await inbox(cleo.me)];

  const channel = await ada.me.channels.create({ name: 'ops', topic: 'what runs' });
  assert.equal(channel.name, 'ops');
  await assert.rejects(ada.me.channels.create({ name: 'ops' }), { statusCode: 409 });
  await bob.me.channels.join('ops');
  assert.deepEqual((await relay.channels.list()).map(({ name }) => name).sort(), ['general', 'ops']);
  assert.deepEqual((await bob.me.channels.members('ops')).map((member) => member.agentName).sort(), ['ada', 'bob']);

  const post = await ada.me.send('#ops', 'who is on call?');
  const reply = await bob.me.reply(post.id, 'me');
  assert.equal(reply.threadId, post.id);
  await bob.me.react(post.id, 'eyes');
  assert.deepEqual((await ada.me.thread(post.id)).replies.map(({ text }) => text), ['me']);
  assert.deepEqual((await ada.me.reactions(post.id)).map(({ emoji, count }) => [emoji, count]), [['eyes', 1]]);
  await bob.me.markRead(post.id);
  const [listed] = await relay.messages.list('#ops');
  assert.deepEqual([listed.id, listed.text, listed.agentName, listed.replyCount], [post.id, 'who is on call?', 'ada', 1]);

  const group = await ada.me.dms.createGroup({ participants: ['bob', 'cleo'], name: 'three' });
  await ada.me.dms.sendMessage(group.id, 'just us');
  assert.deepEqual(await atCleo.upTo('just us'), ['just us'], 'cleo is not in #ops');
  assert.deepEqual(await atBob.upTo('just us'), ['who is on call?', 'just us']);

  await bob.me.channels.leave('ops');
  await ada.me.send('#ops', 'anyone?');
  await ada.me.dm('bob', 'gone already?');
  assert.deepEqual(await atBob.upTo('gone already?'), ['who is on call?', 'just us', 'gone already?']);
  assert.ok((await bob.me.dms.conversations()).length >= 1);
});

test('somebody with the workspace key watches everything live', async (t) => {
  const engine = await startEngine(t, folder(t));
  const relay = workspace(engine);
  atEnd(t, () => relay.disconnect());
  const ada = await register(t, relay, 'ada');
  await register(t, relay, 'bob');
  const seen = [];
  const complete = new Promise((ok) => {
    relay.on.any((event) => {
      seen.push([event.type, event.message?.text]);
      if (event.message?.text === 'the end') ok();
    });
  });
  relay.connect();
  await within(new Promise((ok) => { relay.on.connected(ok); }), 'the workspace stream to open');
  const post = await ada.me.send('#general', 'hello all');
  await ada.me.reply(post.id, 'and more');
  await ada.me.dm('bob', 'a word');
  await ada.me.send('#general', 'the end');
  await within(complete, () => `the last event after ${JSON.stringify(seen)}`);
  const words = seen.filter(([, text]) => text);
  assert.deepEqual(words, [
    ['message.created', 'hello all'], ['thread.reply', 'and more'], ['dm.received', 'a word'], ['message.created', 'the end'],
  ]);
});

test('somebody whose connection drops again and again gets every message once and in order', async (t) => {
  const engine = await startEngine(t, folder(t));
  const proxy = await Proxy.start(t, engine);
  const ada = await register(t, workspace(engine), 'ada');
  const { token } = await workspace(engine).agents.register({ name: 'bob' });
  const bob = workspace(proxy).as(token, { ws: { reconnectBaseDelayMs: 20 } });
  atEnd(t, () => bob.disconnect());
  const box = await inbox(bob);
  const words = Array.from({ length: 200 }, (_, n) => `word-${n}`);
  for (const [n, word] of words.entries()) {
    await ada.me.dm('bob', word);
    if (n % 40 === 20) proxy.cut();
  }
  assert.deepEqual(await box.upTo(words.at(-1)), words);
  assert.ok(proxy.upgrades.length > 2, 'it did drop');
});

test('posts of several senders reach several agents in a terminal complete, each sender in order', async (t) => {
  const dir = folder(t);
  const files = { first: path.join(dir, 'first'), second: path.join(dir, 'second') };
  const broker = await startBroker(t, dir, {
    agents: { first: recorder(files.first), second: recorder(files.second) },
  });
  const relay = workspace(broker);
  const senders = await Promise.all(['ada', 'bob', 'cleo'].map((name) => register(t, relay, name)));
  const words = ({ name }) => Array.from({ length: 30 }, (_, n) => `${name}-${String(n).padStart(2, '0')}`);
  await Promise.all(senders.map(async (sender) => {
    for (const word of words(sender)) await sender.me.send('#general', word);
  }));
  await senders[0].me.send('#general', 'the-end');
  for (const file of Object.values(files)) {
    const text = await written(file, 'the-end');
    for (const sender of senders) assert.deepEqual(inOrder(text, words(sender)), words(sender), file);
  }
});

test('a message sent with the SDK reaches a program in a terminal exactly once', async (t) => {
  const dir = folder(t);
  const file = path.join(dir, 'heard');
  const broker = await startBroker(t, dir, { agents: { echo: recorder(file) } });
  const relay = workspace(broker);
  const ada = await register(t, relay, 'ada');
  await ada.me.dm('echo', 'please-build-it');
  await ada.me.dm('echo', 'and-test-it');
  const text = await written(file, 'and-test-it');
  assert.deepEqual(inOrder(text, ['please-build-it', 'and-test-it']), ['please-build-it', 'and-test-it']);
  assert.match(text, /from ada\b/);
});

test('a post in #general reaches every agent in a terminal', async (t) => {
  const dir = folder(t);
  const files = { first: path.join(dir, 'first'), second: path.join(dir, 'second') };
  const broker = await startBroker(t, dir, {
    agents: { first: recorder(files.first), second: recorder(files.second) },
  });
  const ada = await register(t, workspace(broker), 'ada');
  await ada.me.send('#general', 'stand-up-now');
  await ada.me.dm('first', 'the-end-1');
  await ada.me.dm('second', 'the-end-2');
  for (const [name, end] of [['first', 'the-end-1'], ['second', 'the-end-2']]) {
    const text = await written(files[name], end);
    assert.deepEqual(inOrder(text, ['stand-up-now', end]), ['stand-up-now', end], name);
    assert.match(text, /#general/);
  }
});

test('an agent in a terminal answers somebody with the SDK', async (t) => {
  const dir = folder(t);
  const broker = await startBroker(t, dir, { agents: { echo: 'cat' } });
  const relay = workspace(broker);
  await live(relay, broker.name);
  const ada = await register(t, relay, 'ada');
  const box = await inbox(ada.me);
  await broker.api('POST', '/api/send', { to: 'ada', from: 'echo', text: 'I am done' });
  assert.deepEqual(await box.upTo('I am done'), ['I am done']);
  const [conversation] = await ada.me.dms.conversations();
  assert.equal(conversation.lastMessage.text, 'I am done');
  assert.deepEqual((await ada.me.dms.messages(conversation.id)).map(({ agentName, text }) => [agentName, text]), [['echo', 'I am done']]);
});
