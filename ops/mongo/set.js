// Makes the set of one a set of those that MEMBERS names. May be run again. The first member gets the
// name by which the others reach it; then one new member after the other, as a set takes them.
const members = process.env.MEMBERS.split(",");
const login = `${encodeURIComponent(process.env.MONGO_USER)}:${encodeURIComponent(process.env.MONGO_PASSWORD)}`;
const connection = connect(`mongodb://${login}@${members[0]}/admin?directConnection=true`);

function change(alter) {
  const config = connection.adminCommand({ replSetGetConfig: 1 }).config;
  if (!alter(config)) return;
  config.version += 1;
  const done = connection.adminCommand({ replSetReconfig: config });
  if (!done.ok) throw new Error(done.errmsg);
  waitFor(() => connection.adminCommand({ replSetGetConfig: 1, commitmentStatus: true }).commitmentStatus);
}

function waitFor(done) {
  for (let tries = 0; !done(); tries += 1) {
    if (tries > 240) throw new Error("the set does not agree on its members");
    sleep(500);
  }
}

change((config) => {
  if (config.members[0].host === members[0]) return false;
  config.members[0].host = members[0];
  return true;
});
for (const host of members.slice(1)) {
  waitFor(() => connection.hello().isWritablePrimary);
  change((config) => {
    if (config.members.some((member) => member.host === host)) return false;
    const last = Math.max(...config.members.map((member) => member._id));
    config.members.push({ _id: last + 1, host });
    return true;
  });
}
waitFor(() => {
  const found = connection.adminCommand({ replSetGetStatus: 1 }).members;
  return found.every((member) => [1, 2].includes(member.state));
});
