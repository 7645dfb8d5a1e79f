--[[
The guard of slurm_reserve, and its bell. Put it beside slurm.conf and add JobSubmitPlugins=lua.

The guard refuses jobs that name a lend reservation, or stay in one, unless they are borrowers: from Slurm 25.11 on
AllowedPartitions does the same, before that nothing else can. The bell tells the daemon that somebody has submitted
something, so that it looks at once and not at its next poll.

A script of the site's own goes on as job_submit_site.lua in the same folder; it is called first. Slurm reads this file
again when it changes, and the site's with it: after a change to that one, touch this one.

It runs inside slurmctld, under its locks. So nothing here may wait, and no error may leave it.
]]

local settings = {
  -- As in the site file: lending.partitions and lending.qos. A job is a borrower if all its partitions, or its QOS, are.
  partitions = { "preempt" },
  qos = {},
  -- daemon.run_dir of the site file, and "wake"; false where the daemon runs on another host. Never on NFS.
  wake_file = "/run/slurm-reserve/wake",
}

local LEND_SUFFIX = ".lend"
local MOST_BYTES = 65536 -- that may wait to be read; the daemon empties the file
local REFUSED = slurm.ESLURM_RESERVATION_ACCESS or slurm.ESLURM_ACCESS_DENIED or slurm.ERROR

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do
    set[name] = true
  end
  return set
end

local lendable = { partitions = set_of(settings.partitions), qos = set_of(settings.qos) }

local function each_of(list)
  return string.gmatch(list or "", "[^,]+")
end

-- The first lend reservation in a list of reservations, or nil.
local function lend_reservation(list)
  for name in each_of(list) do
    if string.sub(name, -#LEND_SUFFIX) == LEND_SUFFIX then
      return name
    end
  end
end

-- What Slurm takes for a job that names no partition.
local function default_partition(known)
  for name, partition in pairs(known or {}) do
    if partition.flag_default == 1 then
      return name
    end
  end
end

local function is_borrower(partitions, qos)
  if qos and lendable.qos[qos] then
    return true
  end
  local found = false
  for name in each_of(partitions) do
    if not lendable.partitions[name] then
      return false
    end
    found = true
  end
  return found
end

local function refusal(reservation)
  local text = "slurm_reserve: " .. reservation .. " is a lend reservation: only jobs of the lendable partitions ("
    .. table.concat(settings.partitions, ", ") .. ") may be in it; submit without --reservation"
  slurm.log_user("%s", text)
  slurm.log_info("%s", text)
  return REFUSED
end

-- nil when the job may be submitted, else the error.
local function guard_submission(job, known)
  local reservation = lend_reservation(job.reservation)
  if reservation and not is_borrower(job.partition or default_partition(known), job.qos or job.default_qos) then
    return refusal(reservation)
  end
end

-- nil when the job may be changed so, else the error. A change that says nothing of all this is none of our business.
local function guard_modification(change, job)
  if not (change.reservation or change.partition or change.qos) then
    return nil
  end
  local reservation = lend_reservation(change.reservation or job.resv_name)
  if reservation and not is_borrower(change.partition or job.partition, change.qos or job.qos) then
    return refusal(reservation)
  end
end

-- The file is opened only if it is there, and written to only if it is a file: a pipe has no end to seek.
local function ring(line)
  local file = settings.wake_file and io.open(settings.wake_file, "r+")
  if not file then
    return
  end
  local size = file:seek("end")
  if size and size < MOST_BYTES then
    file:write(line, "\n")
  end
  file:close()
end

local function log_error(what, error)
  slurm.log_error("slurm_reserve: %s: %s", what, tostring(error))
end

local function try(what, action, ...)
  local is_done, result = pcall(action, ...)
  if is_done then
    return result
  end
  pcall(log_error, what, result)
end

-- The site's own script, with globals of its own; without its functions where there is none or it cannot be read.
local function load_site_script()
  local folder = string.match(debug.getinfo(1, "S").source, "^@(.*/)") or ""
  local path = folder .. "job_submit_site.lua"
  local file = io.open(path, "r")
  if not file then
    return {}
  end
  file:close()
  local site = setmetatable({}, { __index = _G })
  local chunk, why
  if setfenv then -- Lua 5.1
    chunk, why = loadfile(path)
    if chunk then
      setfenv(chunk, site)
    end
  else
    chunk, why = loadfile(path, "t", site)
  end
  if not chunk then
    error(why, 0)
  end
  chunk()
  return site
end

local site = try("job_submit_site.lua is left out", load_site_script) or {}

-- What the site's function says, or success where there is none or it fails: slurmctld goes by that too.
local function ask_site(name, ...)
  local ask = rawget(site, name)
  local said = ask and try("job_submit_site.lua: " .. name, ask, ...)
  return type(said) == "number" and said or slurm.SUCCESS
end

function slurm_job_submit(job, known, submit_uid)
  local said = ask_site("slurm_job_submit", job, known, submit_uid)
  if said ~= slurm.SUCCESS then
    return said
  end
  local refused = try("guard", guard_submission, job, known)
  if refused then
    return refused
  end
  try("wake-up", function()
    ring("submit " .. string.format("%.0f", job.user_id or submit_uid))
  end)
  return slurm.SUCCESS
end

function slurm_job_modify(change, job, known, modify_uid)
  local said = ask_site("slurm_job_modify", change, job, known, modify_uid)
  if said ~= slurm.SUCCESS then
    return said
  end
  local refused = try("guard", guard_modification, change, job)
  if refused then
    return refused
  end
  try("wake-up", function()
    if job.user_id == modify_uid then -- the user's own doing, not the daemon's
      ring("submit " .. string.format("%.0f", modify_uid))
    end
  end)
  return slurm.SUCCESS
end

return slurm.SUCCESS
