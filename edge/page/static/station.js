// How the page asks the station.
export async function ask(path, body = undefined) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const answer = await fetch(path, options);
  if (answer.status === 401) location.reload();
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error || `the station answered ${answer.status}`);
  return said;
}

export const clock = (iso) => new Date(iso).toLocaleTimeString("en-GB");
